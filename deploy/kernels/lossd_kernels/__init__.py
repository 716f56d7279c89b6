"""lossd's CPU kernels, compiled: data for lossd_server.jobs.kernel_folders, which looks in this folder."""
