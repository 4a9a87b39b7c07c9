"""The doors of the HTTP edge behind which the bytes of files stream: whole uploads, resumable ones, downloads."""
