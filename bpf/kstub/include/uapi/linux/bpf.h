/* bcc brings its own copy (bcc/bpf.h), and has included it before this. */
