;; Imports random with a resource type.
;; expects: component-type-mismatch
(component
  (import "chiron:builder/random@0.1.0" (instance (export "source" (type (sub resource))))))
