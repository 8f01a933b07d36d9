;; Imports wasi:filesystem/types.
;; expects: component-imports-foreign
(component
  (import "wasi:filesystem/types@0.2.0" (instance )))
