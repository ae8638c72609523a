-- The version before gave items out by these indexes; now inbox_lanes does it.
DROP INDEX inbox_waiting;
DROP INDEX inbox_urgent;
