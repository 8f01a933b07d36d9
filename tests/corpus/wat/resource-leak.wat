;; Makes resources for ever and drops none.
;; expects: builder-out-of-memory
(component
  ;; include types.part
  (core module $destructor
    (func (export "drop") (param i32) ))
  (core instance $destructor-instance (instantiate $destructor))
  (alias core export $destructor-instance "drop" (core func $drop-it))
  (type $thing (resource (rep i32) (dtor (core func $drop-it))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))
  (core module $code
    (import "thing" "new" (func $new (param i32) (result i32)))
    (import "thing" "drop" (func $drop (param i32)))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
      (loop $more
        (drop (call $new (i32.const 1)))
        (br $more))
      unreachable))
  (core instance $running (instantiate $code
    (with "thing" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (alias core export $running "memory" (core memory $memory))
  (alias core export $running "realloc" (core func $realloc))
  (func $build (param "request" $build-request) (result (result $plan (error string)))
    (canon lift (core func $running "build") (memory $memory) (realloc $realloc)))
  (export "build" (func $build)))
