;; An error string of 120 MB, which must not reach anybody.
;; expects: builder-refused-request
(core module $code
  (memory (export "memory") 2048)
  (data (i32.const 16) "\01\00\00\00\00\04\00\00\00\0e\27\07")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
