;; A shared memory: threads are off.
;; expects: component-malformed
(component
  (core module $code (memory (export "memory") 1 1 shared)))
