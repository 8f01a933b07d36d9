;; The smallest component of the builders' world (wasm_sandbox/wit): it asks for `log`, and its build traps.
(component
  (type $types-of-builder (instance
    (type $task' (enum "classification" "regression"))
    (export "task" (type $task (eq $task')))
    (type $element-type' (enum "uint8" "float32"))
    (export "element-type" (type $element-type (eq $element-type')))
    (type $build-request' (record
      (field "task" $task)
      (field "input-shape" (list u32))
      (field "input-type" $element-type)
      (field "target-shape" (list u32))
      (field "classes" u32)
      (field "max-parameters" u64)
      (field "trial" u32)
      (field "trials" u32)))
    (export "build-request" (type (eq $build-request')))
    (type $plan' (record (field "graph" (list u8)) (field "recipe" string)))
    (export "plan" (type (eq $plan')))))
  (import "chiron:builder/types@0.1.0" (instance $types (type $types-of-builder)))
  (alias export $types "build-request" (type $build-request'))
  (import "build-request" (type $build-request (eq $build-request')))
  (alias export $types "plan" (type $plan'))
  (import "plan" (type $plan (eq $plan')))

  (type $log-interface (instance
    (type $level' (enum "debug" "info" "warning" "error"))
    (export "level" (type $level (eq $level')))
    (export "write" (func (param "severity" $level) (param "message" string)))))
  (import "chiron:builder/log@0.1.0" (instance (type $log-interface)))

  (core module $code
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) unreachable))
  (core instance $running (instantiate $code))
  (alias core export $running "memory" (core memory $memory))
  (alias core export $running "realloc" (core func $realloc))
  (func $build (param "request" $build-request) (result (result $plan (error string)))
    (canon lift (core func $running "build") (memory $memory) (realloc $realloc)))
  (export "build" (func $build)))
