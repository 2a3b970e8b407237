"""The rules, pure: no I/O, clock, chance, logging or waiting happens in here."""
