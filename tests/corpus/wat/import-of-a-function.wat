;; Imports a function of its own making.
;; expects: component-imports-foreign
(component
  (import "tell-me-the-key" (func (result string))))
