"""What one worker (node) knows and does: sessions, rooms, delivery, recovery, marks, presence, its peers on the bus."""
