;; Imports wasi:cli/exit.
;; expects: component-imports-foreign
(component
  (import "wasi:cli/exit@0.2.0" (instance )))
