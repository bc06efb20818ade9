#!/bin/sh
# The suite starts this for each of its scenarios at once, also for those that are not run: these end here,
# before they cost anything.
case " $SCENARIOS " in
*" $MCP_CONFORMANCE_SCENARIO "*) exec node conformance/client-under-test.mjs "$@" ;;
esac
