;; A garbage-collected type: off.
;; expects: component-malformed
(component
  (core module $code (type (struct (field i32)))))
