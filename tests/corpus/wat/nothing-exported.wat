;; A component that exports nothing.
;; expects: component-export-missing
(component)
