;; Imports wasi:http/outgoing-handler.
;; expects: component-imports-foreign
(component
  (import "wasi:http/outgoing-handler@0.2.0" (instance )))
