;; Imports a function by way of the types.
;; expects: component-type-mismatch
(component
  (import "chiron:builder/types@0.1.0" (instance (export "key" (func (result string))))))
