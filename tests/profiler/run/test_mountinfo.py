from __future__ import annotations

from cvmprof.profiler.run.mountinfo import parse_mountinfo

MOUNTINFO = (
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "30 22 0:50 /sub /srv/bind ro - fuse cvmfs2 ro\n"
    "31 22 0:50 / /cvmfs/a\\040b ro shared:5 - fuse cvmfs2 ro\n"
    "32 22 0:51 / /home ro - fuse sshfs ro\n"
    "33 22 0:52 / /cvmfs/c ro - fuse.cvmfs2 whatever ro\n"
    "broken line\n"
)


def test_mountinfo() -> None:
    lines = parse_mountinfo(MOUNTINFO)
    assert [line.mountpoint for line in lines] == [
        "/",
        "/srv/bind",
        "/cvmfs/a b",
        "/home",
        "/cvmfs/c",
    ]
    assert [line.is_cvmfs for line in lines] == [False, True, True, False, True]
