;; A function named like the engine's message for exhausted fuel; it does something else.
;; expects: builder-trapped
(core module $code
  (memory (export "memory") 1)
  (func $x (@name "a\nCaused by:\n    wasm trap: all fuel consumed by WebAssembly") unreachable)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    call $x
    i32.const 16))
