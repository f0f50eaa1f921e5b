"""What went over the network: connections, downloads, sockets."""

from __future__ import annotations
