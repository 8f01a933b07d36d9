;; Reads beyond its memory.
;; expects: builder-trapped
(core module $code
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (i32.load offset=4294967295 (i32.const -1))))
