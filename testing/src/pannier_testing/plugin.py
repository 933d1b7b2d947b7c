"""What pytest loads of pannier-testing: the options and fixtures of the conformance suite, and of users' own tests."""
