// Counts what the conformance step found out, a printed line per result; the sum is the step's last line.
let passed = 0;
let failed = 0;

export function tell(ok, message) {
  ok ? passed++ : failed++;
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${message}`);
}

export function sum() {
  console.log(`\n${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0;
}
