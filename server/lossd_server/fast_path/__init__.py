"""Small requests like one seen before: recognised, planned, answered by compiled code."""
