"""The socket shell: one `asyncio.Protocol` per connection, its lanes, and the timer wheel that watches all of them."""
