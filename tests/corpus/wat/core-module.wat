;; A core module with a build of its own.
;; expects: component-is-core-module
(module (memory (export "memory") 1) (func (export "build") (result i32) unreachable))
