"""For the tests of applications that use pannier: a clock, fresh job queues, draining, looking, faults on demand."""
