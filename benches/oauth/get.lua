-- One GET, over and over. AUTHORIZATION comes from the environment, and may be empty.
wrk.method = "GET"
if (os.getenv("AUTHORIZATION") or "") ~= "" then wrk.headers["Authorization"] = os.getenv("AUTHORIZATION") end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    + summary.errors.status
  io.write(string.format('RESULT {"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.4f, "p99_ms": %.4f}\n',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
