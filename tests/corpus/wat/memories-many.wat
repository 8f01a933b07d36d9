;; Has ten memories.
;; expects: builder-out-of-memory
(core module $code
  (memory (export "memory") 1)
  (memory $m0 1)
  (memory $m1 1)
  (memory $m2 1)
  (memory $m3 1)
  (memory $m4 1)
  (memory $m5 1)
  (memory $m6 1)
  (memory $m7 1)
  (memory $m8 1)
  (memory $m9 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
