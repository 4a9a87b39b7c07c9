"""What is decided and made from the bytes of a file, before and after anybody may see it.

    names     what a person's name for a file becomes, and how it is said in HTTP            pure
    kinds     the table of what may be sent                                                  pure
    rules     is this what it says it is, and is it allowed                                  pure
    archives  what is in a ZIP, without unpacking it
    images, documents, sounds    small pictures, cleaned pictures, pages, lengths            only in the workshop
    workshop  the processes in which all of that happens, and their limits
    scanner   the port to a malware scanner, and clamd behind it

It knows nothing of object stores, HTTP or the database. `docs/files-inspection.md` is the page about it.
"""
