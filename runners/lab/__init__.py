"""The lab: a repository in the CVMFS format, an HTTP server and a FUSE client to try cvmprof on."""
