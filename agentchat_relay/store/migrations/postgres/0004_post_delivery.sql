-- The version before listed open items by this index; now inbox_waiting does it.
DROP INDEX inbox_open;
