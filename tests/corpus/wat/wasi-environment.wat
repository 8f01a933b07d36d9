;; Imports wasi:cli/environment.
;; expects: component-imports-foreign
(component
  (import "wasi:cli/environment@0.2.0" (instance (export "get-environment" (func (result (list (tuple string string))))))))
