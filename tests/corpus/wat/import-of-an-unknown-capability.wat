;; Imports a capability that does not exist.
;; expects: component-imports-foreign
(component
  (import "chiron:builder/dataset-keys@0.1.0" (instance (export "get" (func (result string))))))
