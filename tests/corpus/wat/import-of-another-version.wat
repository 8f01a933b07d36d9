;; Imports log of a version that is not ours.
;; expects: component-imports-foreign
(component
  (import "chiron:builder/log@0.2.0" (instance)))
