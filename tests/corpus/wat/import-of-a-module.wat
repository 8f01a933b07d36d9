;; Imports a core module.
;; expects: component-imports-foreign
(component
  (import "code" (core module)))
