"""Guards around user code: odd values, frames left on the stack, threads, and what the log says."""
