;; build has another type.
;; expects: component-type-mismatch
(component
  (core module $code (func (export "build")))
  (core instance $running (instantiate $code))
  (func $build (canon lift (core func $running "build")))
  (export "build" (func $build)))
