;; Needs dataset-sample, which was not granted; its start function must not run.
;; expects: capability-not-granted
;; grants: log dataset-shape
(component
  ;; include types.part
  (import "chiron:builder/dataset-sample@0.1.0" (instance (export "count" (func (result u32)))))
  (core module $code
    (memory (export "memory") 1)
    (func $begin unreachable)
    (start $begin)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) unreachable))
  (core instance $running (instantiate $code))
  (alias core export $running "memory" (core memory $memory))
  (alias core export $running "realloc" (core func $realloc))
  (func $build (param "request" $build-request) (result (result $plan (error string)))
    (canon lift (core func $running "build") (memory $memory) (realloc $realloc)))
  (export "build" (func $build)))
