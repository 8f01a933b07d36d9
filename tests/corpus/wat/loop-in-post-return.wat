;; A loop without end in the function that frees the answer.
;; expects: builder-out-of-fuel
(component
  ;; include types.part
  (core module $code
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) i32.const 16)
    (func (export "free") (param i32) (loop $forever (br $forever))))
  (core instance $running (instantiate $code))
  (alias core export $running "memory" (core memory $memory))
  (alias core export $running "realloc" (core func $realloc))
  (func $build (param "request" $build-request) (result (result $plan (error string)))
    (canon lift (core func $running "build") (memory $memory) (realloc $realloc)
      (post-return (core func $running "free"))))
  (export "build" (func $build)))
