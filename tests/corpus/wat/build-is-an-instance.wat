;; build is an instance, not a function.
;; expects: component-type-mismatch
(component
  (instance $empty)
  (export "build" (instance $empty)))
