;; Imports log with a function that it does not have.
;; expects: component-type-mismatch
(component
  (import "chiron:builder/log@0.1.0" (instance (export "read" (func (result string))))))
