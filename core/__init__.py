"""What everything stands on: settings, database, bus, ids, actions, outbox, jobs, crypto, telemetry."""
