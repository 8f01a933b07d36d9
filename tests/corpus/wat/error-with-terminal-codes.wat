;; An error string that would clear the reader's terminal.
;; expects: builder-refused-request
(core module $code
  (memory (export "memory") 1)
  (data (i32.const 16) "\01\00\00\00\80\00\00\00\0c\00\00\00")
  (data (i32.const 128) "\1b[2J\1b]0;x\07\0a\0d")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    i32.const 16))
