"""Distribution kernels: losses between two distributions, and the entropy of one."""
