;; Imports wasi:sockets/tcp.
;; expects: component-imports-foreign
(component
  (import "wasi:sockets/tcp@0.2.0" (instance )))
