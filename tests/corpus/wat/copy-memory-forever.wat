;; Copies its whole memory over itself, without end.
;; expects: builder-out-of-fuel
(core module $code
  (memory (export "memory") 4096)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (loop $forever
      (memory.copy (i32.const 1) (i32.const 0) (i32.const 268435455))
      (br $forever))
    unreachable))
