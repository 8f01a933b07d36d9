;; A loop without end in realloc: while the host hands the request over.
;; expects: builder-out-of-fuel
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (loop $forever (br $forever)) unreachable)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
