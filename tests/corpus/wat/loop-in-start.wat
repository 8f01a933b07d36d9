;; A loop without end in the start function: before build is called.
;; expects: builder-out-of-fuel
(core module $code
  (memory (export "memory") 1)
  (func $begin (loop $forever (br $forever)))
  (start $begin)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
