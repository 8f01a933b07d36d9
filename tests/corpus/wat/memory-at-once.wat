;; Declares 3.7 GB of memory.
;; expects: builder-out-of-memory
(core module $code
  (memory (export "memory") 60000)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
