;; A 64-bit memory: off.
;; expects: component-malformed
(component
  (core module $code (memory i64 1)))
