"""The ring by itself: `uringloop.ring`."""
