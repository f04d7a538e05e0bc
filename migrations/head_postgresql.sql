CREATE TABLE batcher_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT batcher_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE ledger_info (
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  CONSTRAINT pk_ledger_info PRIMARY KEY (name)
);

CREATE TABLE price_books (
  price_book_id BIGSERIAL NOT NULL,
  version TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  source TEXT NOT NULL,
  content TEXT NOT NULL,
  CONSTRAINT uq_price_books_sha256 UNIQUE (sha256),
  CONSTRAINT pk_price_books PRIMARY KEY (price_book_id)
);

CREATE TABLE rate_sets (
  rate_set_id BIGSERIAL NOT NULL,
  price_book_id BIGINT NOT NULL,
  price_list TEXT NOT NULL,
  model TEXT NOT NULL,
  terms TEXT NOT NULL,
  valid_from TEXT NOT NULL,
  currency TEXT NOT NULL,
  input_rate BIGINT,
  cache_write_5m_rate BIGINT,
  cache_write_1h_rate BIGINT,
  cache_read_rate BIGINT,
  output_rate BIGINT,
  web_search_rate BIGINT,
  CONSTRAINT uq_rate_sets_price_book_id_price_list_model_terms_valid_from
    UNIQUE (price_book_id, price_list, model, terms, valid_from),
  CONSTRAINT fk_rate_sets_price_book_id FOREIGN KEY (price_book_id) REFERENCES price_books (price_book_id),
  CONSTRAINT pk_rate_sets PRIMARY KEY (rate_set_id)
);

CREATE TABLE ratings (
  rating_id BIGSERIAL NOT NULL,
  price_book_id BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  reason TEXT NOT NULL,
  position BIGINT,
  run_id BIGINT,
  as_of TEXT,
  CONSTRAINT fk_ratings_price_book_id FOREIGN KEY (price_book_id) REFERENCES price_books (price_book_id),
  CONSTRAINT pk_ratings PRIMARY KEY (rating_id)
);

CREATE TABLE closed_months (
  closing_id BIGSERIAL NOT NULL,
  month TEXT NOT NULL,
  rating_id BIGINT NOT NULL,
  closed_at BIGINT NOT NULL,
  reopened_by BIGINT,
  CONSTRAINT fk_closed_months_rating_id FOREIGN KEY (rating_id) REFERENCES ratings (rating_id),
  CONSTRAINT pk_closed_months PRIMARY KEY (closing_id)
);

CREATE TABLE runs (
  run_id BIGSERIAL NOT NULL,
  key TEXT NOT NULL,
  job TEXT,
  created_at BIGINT NOT NULL,
  CONSTRAINT uq_runs_key UNIQUE (key),
  CONSTRAINT pk_runs PRIMARY KEY (run_id)
);

CREATE TABLE invocations (
  invocation_id BIGSERIAL NOT NULL,
  run_id BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT,
  exit_code INTEGER,
  clean INTEGER DEFAULT '0' NOT NULL,
  settled_below BIGINT DEFAULT '0' NOT NULL,
  host TEXT NOT NULL,
  pid BIGINT NOT NULL,
  os_user TEXT NOT NULL,
  version TEXT NOT NULL,
  command TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  base_url TEXT NOT NULL,
  lane TEXT NOT NULL,
  simulated INTEGER DEFAULT '0' NOT NULL,
  price_list TEXT,
  settings_digest TEXT NOT NULL,
  options TEXT NOT NULL,
  tags TEXT NOT NULL,
  CONSTRAINT fk_invocations_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT pk_invocations PRIMARY KEY (invocation_id)
);

CREATE INDEX ix_invocations_run_id ON invocations (run_id);

CREATE TABLE sources (
  source_id BIGSERIAL NOT NULL,
  run_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  location TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  settings_digest TEXT NOT NULL,
  matched INTEGER NOT NULL,
  rows BIGINT,
  done_ranges TEXT DEFAULT '[]' NOT NULL,
  superseded_by BIGINT,
  CONSTRAINT fk_sources_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT pk_sources PRIMARY KEY (source_id)
);

CREATE INDEX ix_sources_run_id ON sources (run_id);

CREATE TABLE attempts (
  attempt_id BIGINT NOT NULL,
  attempt_uid TEXT NOT NULL,
  invocation_id BIGINT NOT NULL,
  request_id BIGINT NOT NULL,
  source_id BIGINT NOT NULL,
  row_number BIGINT NOT NULL,
  byte_offset BIGINT,
  custom_id TEXT,
  params_hash BYTEA NOT NULL,
  number INTEGER NOT NULL,
  leg INTEGER NOT NULL,
  purpose TEXT NOT NULL,
  lane TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  state TEXT NOT NULL,
  pending INTEGER NOT NULL,
  opened_at BIGINT NOT NULL,
  sent_at BIGINT,
  settled_at BIGINT,
  http_status INTEGER,
  error_type TEXT,
  error_code TEXT,
  error_message TEXT,
  provider_request_id TEXT,
  cost_low BIGINT NOT NULL,
  cost_high BIGINT,
  workspace_id TEXT,
  CONSTRAINT pk_attempts PRIMARY KEY (attempt_id)
);

CREATE INDEX ix_attempts_not_answered ON attempts (invocation_id, state) WHERE state <> 'answered';

CREATE INDEX ix_attempts_pending ON attempts (invocation_id) WHERE pending = 1;

CREATE TABLE answers (
  attempt_id BIGINT NOT NULL,
  request_id BIGINT NOT NULL,
  run_id BIGINT NOT NULL,
  invocation_id BIGINT NOT NULL,
  source_id BIGINT NOT NULL,
  row_number BIGINT NOT NULL,
  custom_id TEXT,
  params_hash BYTEA NOT NULL,
  identity BIGINT NOT NULL,
  final INTEGER NOT NULL,
  requested_model TEXT NOT NULL,
  model TEXT,
  message_id TEXT,
  stop_reason TEXT,
  stop_sequence TEXT,
  stop_details TEXT,
  container_id TEXT,
  text TEXT NOT NULL,
  text_repaired INTEGER NOT NULL,
  content TEXT NOT NULL,
  joined_text TEXT,
  joined_content TEXT,
  input_tokens BIGINT,
  cache_write_tokens BIGINT,
  cache_write_5m_tokens BIGINT,
  cache_write_1h_tokens BIGINT,
  cache_read_tokens BIGINT,
  output_tokens BIGINT,
  thinking_tokens BIGINT,
  web_search_requests BIGINT,
  service_tier TEXT,
  inference_geo TEXT,
  speed TEXT,
  usage TEXT,
  provider_reported_cost TEXT,
  attempts INTEGER NOT NULL,
  legs INTEGER NOT NULL,
  latency_us BIGINT NOT NULL,
  first_token_us BIGINT,
  answered_at BIGINT NOT NULL,
  valid INTEGER,
  invalid_reason TEXT,
  CONSTRAINT pk_answers PRIMARY KEY (attempt_id)
);

CREATE INDEX ix_answers_identity ON answers (identity);

CREATE INDEX ix_answers_locator ON answers (source_id, row_number) WHERE final = 1;

CREATE INDEX ix_answers_not_final ON answers (request_id) WHERE final = 0;

CREATE TABLE unusable_bodies (
  attempt_id BIGINT NOT NULL,
  body BYTEA NOT NULL,
  CONSTRAINT fk_unusable_bodies_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT pk_unusable_bodies PRIMARY KEY (attempt_id)
);

CREATE TABLE tool_results (
  attempt_id BIGINT NOT NULL,
  results TEXT NOT NULL,
  ran_at BIGINT NOT NULL,
  CONSTRAINT fk_tool_results_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT pk_tool_results PRIMARY KEY (attempt_id)
);

CREATE TABLE failures (
  failure_id BIGSERIAL NOT NULL,
  run_id BIGINT NOT NULL,
  invocation_id BIGINT NOT NULL,
  source_id BIGINT NOT NULL,
  row_number BIGINT NOT NULL,
  byte_offset BIGINT,
  custom_id TEXT,
  params_hash BYTEA,
  identity BIGINT,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  transient INTEGER NOT NULL,
  attempt_id BIGINT,
  failed_at BIGINT NOT NULL,
  CONSTRAINT uq_failures_source_id_row_number UNIQUE (source_id, row_number),
  CONSTRAINT fk_failures_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT fk_failures_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT fk_failures_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_failures PRIMARY KEY (failure_id)
);

CREATE INDEX ix_failures_identity ON failures (identity);

CREATE TABLE charges (
  attempt_id BIGINT NOT NULL,
  line INTEGER NOT NULL,
  rating_id BIGINT NOT NULL,
  current INTEGER NOT NULL,
  model TEXT,
  rate_set_id BIGINT,
  currency TEXT,
  status TEXT NOT NULL,
  reason TEXT,
  input_quantity BIGINT,
  cache_write_5m_quantity BIGINT,
  cache_write_1h_quantity BIGINT,
  cache_read_quantity BIGINT,
  output_quantity BIGINT,
  web_search_quantity BIGINT,
  input_amount BIGINT,
  cache_write_5m_amount BIGINT,
  cache_write_1h_amount BIGINT,
  cache_read_amount BIGINT,
  output_amount BIGINT,
  web_search_amount BIGINT,
  total_amount BIGINT,
  CONSTRAINT pk_charges PRIMARY KEY (attempt_id, line, rating_id)
);

CREATE TABLE rollups (
  invocation_id BIGINT NOT NULL,
  quarter BIGINT NOT NULL,
  lane TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  model TEXT NOT NULL,
  stop_reason TEXT NOT NULL,
  rating_id BIGINT NOT NULL,
  status TEXT NOT NULL,
  currency TEXT NOT NULL,
  charges BIGINT NOT NULL,
  answers BIGINT NOT NULL,
  final_answers BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  cache_write_5m_tokens BIGINT NOT NULL,
  cache_write_1h_tokens BIGINT NOT NULL,
  cache_read_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  thinking_tokens BIGINT NOT NULL,
  web_search_requests BIGINT NOT NULL,
  unpriced_answers BIGINT NOT NULL,
  unpriced_tokens BIGINT NOT NULL,
  amount_whole BIGINT NOT NULL,
  amount_rest BIGINT NOT NULL,
  superseded_by BIGINT,
  CONSTRAINT fk_rollups_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_rollups PRIMARY KEY (
    invocation_id, quarter, lane, requested_model, model, stop_reason, rating_id, status,
    currency
  )
);

CREATE TABLE budgets (
  scope TEXT NOT NULL,
  cap BIGINT NOT NULL,
  granted BIGINT NOT NULL,
  settled BIGINT NOT NULL,
  CONSTRAINT pk_budgets PRIMARY KEY (scope)
);

CREATE TABLE budget_slices (
  scope TEXT NOT NULL,
  invocation_id BIGINT NOT NULL,
  granted BIGINT NOT NULL,
  settled BIGINT NOT NULL,
  CONSTRAINT fk_budget_slices_scope FOREIGN KEY (scope) REFERENCES budgets (scope),
  CONSTRAINT fk_budget_slices_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_budget_slices PRIMARY KEY (scope, invocation_id)
);

CREATE TABLE estimates (
  estimate_id BIGSERIAL NOT NULL,
  run_key TEXT NOT NULL,
  basis TEXT NOT NULL,
  method TEXT NOT NULL,
  input_method TEXT NOT NULL,
  ceiling TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  after_invocation BIGINT NOT NULL,
  sampled BIGINT NOT NULL,
  requests BIGINT NOT NULL,
  unbounded BIGINT NOT NULL,
  expected TEXT,
  low TEXT,
  high TEXT,
  actual TEXT,
  grade TEXT,
  in_doubt_low TEXT,
  in_doubt_high TEXT,
  run_id BIGINT,
  graded_at BIGINT,
  CONSTRAINT pk_estimates PRIMARY KEY (estimate_id)
);

CREATE TABLE reconciliations (
  reconciliation_id BIGSERIAL NOT NULL,
  recorded_at BIGINT NOT NULL,
  recorded_by TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  simulated INTEGER NOT NULL,
  days TEXT NOT NULL,
  files TEXT NOT NULL,
  after_rating BIGINT NOT NULL,
  CONSTRAINT pk_reconciliations PRIMARY KEY (reconciliation_id)
);

CREATE TABLE adjustments (
  adjustment_id BIGSERIAL NOT NULL,
  reconciliation_id BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  recorded_by TEXT NOT NULL,
  day TEXT NOT NULL,
  model TEXT,
  tier TEXT,
  geography TEXT,
  kind TEXT NOT NULL,
  amount BIGINT NOT NULL,
  cause TEXT NOT NULL,
  after_rating BIGINT NOT NULL,
  undoes BIGINT,
  CONSTRAINT fk_adjustments_reconciliation_id FOREIGN KEY (reconciliation_id) REFERENCES reconciliations (reconciliation_id),
  CONSTRAINT uq_adjustments_undoes UNIQUE (undoes),
  CONSTRAINT fk_adjustments_undoes FOREIGN KEY (undoes) REFERENCES adjustments (adjustment_id),
  CONSTRAINT pk_adjustments PRIMARY KEY (adjustment_id)
);

CREATE TABLE leases (
  name TEXT NOT NULL,
  token BIGINT NOT NULL,
  owner TEXT NOT NULL,
  process TEXT NOT NULL,
  invocation_id BIGINT,
  acquired_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  written BIGINT NOT NULL,
  CONSTRAINT pk_leases PRIMARY KEY (name)
);

CREATE TABLE quota_leases (
  fingerprint TEXT NOT NULL,
  model_class TEXT NOT NULL,
  invocation_id BIGINT NOT NULL,
  demand INTEGER NOT NULL,
  share INTEGER NOT NULL,
  paused_until BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  CONSTRAINT pk_quota_leases PRIMARY KEY (fingerprint, model_class, invocation_id)
);

CREATE TABLE shards (
  source_id BIGINT NOT NULL,
  first_row BIGINT NOT NULL,
  last_row BIGINT NOT NULL,
  invocation_id BIGINT NOT NULL,
  done INTEGER NOT NULL,
  CONSTRAINT fk_shards_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT fk_shards_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_shards PRIMARY KEY (source_id, first_row)
);

ALTER TABLE runs ADD COLUMN round BIGINT DEFAULT '0' NOT NULL;

CREATE TABLE shared_answers (
	shared_id BIGSERIAL NOT NULL, 
	run_id BIGINT NOT NULL, 
	invocation_id BIGINT NOT NULL, 
	source_id BIGINT NOT NULL, 
	row_number BIGINT NOT NULL, 
	custom_id TEXT, 
	params_hash BYTEA NOT NULL, 
	identity BIGINT NOT NULL, 
	attempt_id BIGINT NOT NULL, 
	shared_at BIGINT NOT NULL, 
	CONSTRAINT pk_shared_answers PRIMARY KEY (shared_id), 
	CONSTRAINT fk_shared_answers_run_id FOREIGN KEY(run_id) REFERENCES runs (run_id), 
	CONSTRAINT fk_shared_answers_invocation_id FOREIGN KEY(invocation_id) REFERENCES invocations (invocation_id), 
	CONSTRAINT fk_shared_answers_source_id FOREIGN KEY(source_id) REFERENCES sources (source_id), 
	CONSTRAINT fk_shared_answers_attempt_id FOREIGN KEY(attempt_id) REFERENCES answers (attempt_id), 
	CONSTRAINT uq_shared_answers_source_id_row_number UNIQUE (source_id, row_number)
);

CREATE INDEX ix_shared_answers_identity ON shared_answers (identity);

CREATE INDEX ix_shared_answers_attempt_id ON shared_answers (attempt_id);

ALTER TABLE answers ADD COLUMN evidence TEXT;

ALTER TABLE charges ADD COLUMN high_amount BIGINT;

ALTER TABLE ratings ADD COLUMN rules INTEGER;

ALTER TABLE rollups ADD COLUMN assumed_high_whole BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE rollups ADD COLUMN assumed_high_rest BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE answers ADD COLUMN checksum BIGINT;

ALTER TABLE invocations ADD COLUMN fallback_of BIGINT;

DROP INDEX ix_answers_identity;

ALTER TABLE attempts ADD COLUMN batch_number BIGINT;

CREATE INDEX ix_attempts_batch_number ON attempts (batch_number) WHERE batch_number > 0;

CREATE TABLE batches (
	batch_number BIGSERIAL NOT NULL, 
	run_id BIGINT NOT NULL, 
	invocation_id BIGINT NOT NULL, 
	requested_model TEXT NOT NULL, 
	state TEXT NOT NULL, 
	batch_id TEXT, 
	requests BIGINT NOT NULL, 
	intended_at BIGINT NOT NULL, 
	created_at BIGINT, 
	expires_at BIGINT, 
	ended_at BIGINT, 
	closed_at BIGINT, 
	succeeded BIGINT DEFAULT '0' NOT NULL, 
	errored BIGINT DEFAULT '0' NOT NULL, 
	expired BIGINT DEFAULT '0' NOT NULL, 
	canceled BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_batches PRIMARY KEY (batch_number), 
	CONSTRAINT fk_batches_run_id FOREIGN KEY(run_id) REFERENCES runs (run_id), 
	CONSTRAINT fk_batches_invocation_id FOREIGN KEY(invocation_id) REFERENCES invocations (invocation_id)
);

ALTER TABLE invocations ADD COLUMN key_fingerprint TEXT;

CREATE INDEX ix_answers_invalid ON answers (attempt_id) WHERE valid = 0;

ALTER TABLE attempts ADD COLUMN cache_prefix BIGINT;

ALTER TABLE attempts ADD COLUMN cache_note TEXT;

CREATE VIEW v_answers AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.final, x.state, x.leg, x.requested_model,
  x.model, x.message_id, x.stop_reason, x.stop_sequence, x.stop_details, x.text,
  x.text_repaired, x.content, x.valid, x.invalid_reason, x.input_tokens,
  x.cache_write_tokens, x.cache_write_5m_tokens, x.cache_write_1h_tokens,
  x.cache_read_tokens, x.output_tokens, x.thinking_tokens, x.web_search_requests,
  x.service_tier, x.inference_geo, x.speed, x.attempts, x.legs, x.latency_ms,
  x.first_token_ms, x.answered_at, x.cost_pico_usd, x.cost_status,
  x.provider_reported_cost, x.paid_by_attempt_uid, x.trust, x.cost_usd,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.container_id,
  CASE WHEN position('"thinking"' IN x.content) > 0 AND x.content !~ '\\u(0000|[dD][89a-fA-F])' THEN
    (SELECT string_agg(b.value ->> 'thinking', E'\n') FROM json_array_elements(CAST(x.content AS json)) b
    WHERE b.value ->> 'type' = 'thinking') END AS thinking,
  CAST(CAST(x.cost_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_low_usd,
  CAST(CAST(x.cost_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_high_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  a.run_id, a.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  a.row_number, a.custom_id, t.attempt_uid, a.request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired, COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.input_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.input_tokens END AS input_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_tokens END AS cache_write_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_5m_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_5m_tokens END AS cache_write_5m_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_1h_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_1h_tokens END AS cache_write_1h_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_read_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_read_tokens END AS cache_read_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.output_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.output_tokens END AS output_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.thinking_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.thinking_tokens END AS thinking_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.web_search_requests) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.web_search_requests END AS web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  TIMESTAMPTZ 'epoch' + a.answered_at * INTERVAL '1 microsecond' AS answered_at,
  CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_pico_usd,
  CASE WHEN a.legs > 1 THEN CASE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END ELSE CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS cost_status,
  a.provider_reported_cost AS provider_reported_cost, CAST(NULL AS text) AS paid_by_attempt_uid,
  CASE WHEN a.legs > 1 THEN CASE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END ELSE CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS trust, CAST(CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS numeric) / 1000000000000 AS cost_usd,
  CASE WHEN a.legs > 1 THEN (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN COALESCE(CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END, 0) ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_low_pico_usd, CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END IS NOT NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS cost_high_pico_usd, a.container_id,
  t.workspace_id, i.key_fingerprint
FROM sources s
CROSS JOIN answers a
LEFT JOIN runs r ON r.run_id = a.run_id
LEFT JOIN invocations i ON i.invocation_id = a.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
UNION ALL
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  h.row_number, h.custom_id, CAST(NULL AS text) AS attempt_uid,
  CAST(NULL AS bigint) AS request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired, COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.input_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.input_tokens END AS input_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_tokens END AS cache_write_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_5m_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_5m_tokens END AS cache_write_5m_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_1h_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_1h_tokens END AS cache_write_1h_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_read_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_read_tokens END AS cache_read_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.output_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.output_tokens END AS output_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.thinking_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.thinking_tokens END AS thinking_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.web_search_requests) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.web_search_requests END AS web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  TIMESTAMPTZ 'epoch' + a.answered_at * INTERVAL '1 microsecond' AS answered_at,
  0 AS cost_pico_usd,
  'unbilled' AS cost_status,
  CAST(NULL AS text) AS provider_reported_cost, t.attempt_uid AS paid_by_attempt_uid,
  'unbilled' AS trust, CAST(0 AS numeric) / 1000000000000 AS cost_usd,
  0 AS cost_low_pico_usd, 0 AS cost_high_pico_usd, a.container_id,
  CAST(NULL AS text) AS workspace_id, CAST(NULL AS text) AS key_fingerprint
FROM sources s
CROSS JOIN shared_answers h
CROSS JOIN answers a
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
WHERE h.source_id = s.source_id AND a.attempt_id = h.attempt_id AND s.superseded_by IS NULL
) x;

CREATE VIEW v_answers_all AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.final, x.state, x.leg, x.requested_model,
  x.model, x.message_id, x.stop_reason, x.stop_sequence, x.stop_details, x.text,
  x.text_repaired, x.content, x.valid, x.invalid_reason, x.input_tokens,
  x.cache_write_tokens, x.cache_write_5m_tokens, x.cache_write_1h_tokens,
  x.cache_read_tokens, x.output_tokens, x.thinking_tokens, x.web_search_requests,
  x.service_tier, x.inference_geo, x.speed, x.attempts, x.legs, x.latency_ms,
  x.first_token_ms, x.answered_at, x.cost_pico_usd, x.cost_status,
  x.provider_reported_cost, x.paid_by_attempt_uid, x.trust, x.cost_usd,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.container_id,
  CASE WHEN position('"thinking"' IN x.content) > 0 AND x.content !~ '\\u(0000|[dD][89a-fA-F])' THEN
    (SELECT string_agg(b.value ->> 'thinking', E'\n') FROM json_array_elements(CAST(x.content AS json)) b
    WHERE b.value ->> 'type' = 'thinking') END AS thinking,
  CAST(CAST(x.cost_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_low_usd,
  CAST(CAST(x.cost_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_high_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  a.run_id, a.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  a.row_number, a.custom_id, t.attempt_uid, a.request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  a.text AS text, a.text_repaired, a.content AS content, a.valid, a.invalid_reason,
  a.input_tokens,
  a.cache_write_tokens,
  a.cache_write_5m_tokens,
  a.cache_write_1h_tokens,
  a.cache_read_tokens,
  a.output_tokens,
  a.thinking_tokens,
  a.web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  TIMESTAMPTZ 'epoch' + a.answered_at * INTERVAL '1 microsecond' AS answered_at,
  CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_pico_usd,
  CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS cost_status,
  a.provider_reported_cost AS provider_reported_cost, CAST(NULL AS text) AS paid_by_attempt_uid,
  CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS trust, CAST(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS numeric) / 1000000000000 AS cost_usd,
  CASE WHEN more.line IS NULL THEN COALESCE(CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END, 0) ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_low_pico_usd, CASE WHEN more.line IS NULL THEN CASE WHEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END IS NOT NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_high_pico_usd, a.container_id,
  t.workspace_id, i.key_fingerprint
FROM answers a
JOIN sources s ON s.source_id = a.source_id
LEFT JOIN runs r ON r.run_id = a.run_id
LEFT JOIN invocations i ON i.invocation_id = a.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
WHERE t.state <> 'partial'
) x;

CREATE VIEW v_attempts AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.attempt, x.leg, x.purpose, x.state,
  x.requested_model, x.opened_at, x.sent_at, x.settled_at, x.http_status, x.error_type,
  x.error_code, x.error_message, x.provider_request_id, x.workspace_id,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  CAST(CAST(x.cost_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_low_usd,
  CAST(CAST(x.cost_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_high_usd,
  x.key_fingerprint
FROM (
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, t.number AS attempt, t.leg, t.purpose, t.state,
  t.requested_model, TIMESTAMPTZ 'epoch' + t.opened_at * INTERVAL '1 microsecond' AS opened_at, TIMESTAMPTZ 'epoch' + t.sent_at * INTERVAL '1 microsecond' AS sent_at,
  TIMESTAMPTZ 'epoch' + t.settled_at * INTERVAL '1 microsecond' AS settled_at, t.http_status, t.error_type, t.error_code, t.error_message,
  t.provider_request_id, t.workspace_id,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_low END AS cost_low_pico_usd,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_high END AS cost_high_pico_usd,
  i.key_fingerprint
FROM attempts t
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
) x;

CREATE VIEW v_charges AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.line, x.model, x.meter, x.quantity, x.rate,
  x.amount, x.currency, x.amount_pico_usd, x.status, x.reason, x.price_book, x.rating,
  CAST(CAST(x.amount_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS amount_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'input' AS meter, c.input_quantity AS quantity, x.input_rate AS rate, c.input_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.input_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.input_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_write_5m' AS meter, c.cache_write_5m_quantity AS quantity, x.cache_write_5m_rate AS rate, c.cache_write_5m_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_write_5m_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_write_5m_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_write_1h' AS meter, c.cache_write_1h_quantity AS quantity, x.cache_write_1h_rate AS rate, c.cache_write_1h_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_write_1h_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_write_1h_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_read' AS meter, c.cache_read_quantity AS quantity, x.cache_read_rate AS rate, c.cache_read_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_read_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_read_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'output' AS meter, c.output_quantity AS quantity, x.output_rate AS rate, c.output_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.output_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.output_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'web_search' AS meter, c.web_search_quantity AS quantity, x.web_search_rate AS rate, c.web_search_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.web_search_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.web_search_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'unknown' AS meter, NULL AS quantity, NULL AS rate, NULL AS amount,
  c.currency, NULL AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.status IN ('unpriced', 'assumed') AND COALESCE(c.input_quantity, 0) = 0 AND COALESCE(c.cache_write_5m_quantity, 0) = 0 AND COALESCE(c.cache_write_1h_quantity, 0) = 0 AND COALESCE(c.cache_read_quantity, 0) = 0 AND COALESCE(c.output_quantity, 0) = 0 AND COALESCE(c.web_search_quantity, 0) = 0
) x;

CREATE VIEW v_failures AS
SELECT
  f.run_id, f.invocation_id, r.job, i.endpoint, COALESCE(t.lane, i.lane) AS lane,
  s.name AS source, f.row_number, f.custom_id, f.byte_offset, f.kind, f.reason, f.message,
  f.transient, t.attempt_uid, TIMESTAMPTZ 'epoch' + f.failed_at * INTERVAL '1 microsecond' AS failed_at
FROM failures f
JOIN sources s ON s.source_id = f.source_id
LEFT JOIN runs r ON r.run_id = f.run_id
LEFT JOIN invocations i ON i.invocation_id = f.invocation_id
LEFT JOIN attempts t ON t.attempt_id = f.attempt_id
WHERE s.superseded_by IS NULL;

CREATE VIEW v_cost_by_model_day AS
SELECT
  x.day, x.endpoint, x.model, x.requests, x.attempts, x.input_tokens, x.cache_write_tokens,
  x.cache_write_5m_tokens, x.cache_write_1h_tokens, x.cache_read_tokens, x.output_tokens,
  x.thinking_tokens, x.web_search_requests, x.cost_pico_usd, x.in_doubt_low_pico_usd,
  x.in_doubt_high_pico_usd, x.in_doubt_unbounded, x.unpriced_requests, x.assumed_requests,
  x.assumed_low_pico_usd, x.assumed_high_pico_usd,
  CAST(CAST(x.cost_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_usd,
  CAST(CAST(x.in_doubt_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS in_doubt_low_usd,
  CAST(CAST(x.in_doubt_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS in_doubt_high_usd,
  CAST(CAST(x.assumed_low_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS assumed_low_usd,
  CAST(CAST(x.assumed_high_pico_usd AS numeric) / 1000000000000 AS numeric(38, 12)) AS assumed_high_usd
FROM (
SELECT
  CAST((TIMESTAMPTZ 'epoch' + COALESCE(t.sent_at, t.opened_at) * INTERVAL '1 microsecond') AT TIME ZONE 'UTC' AS date) AS day, i.endpoint, COALESCE(a.model, t.requested_model) AS model,
  COUNT(CASE WHEN a.final = 1 THEN 1 END) AS requests,
  COUNT(*) AS attempts,
  CAST(SUM(a.input_tokens) AS bigint) AS input_tokens,
  CAST(SUM(a.cache_write_tokens) AS bigint) AS cache_write_tokens,
  CAST(SUM(a.cache_write_5m_tokens) AS bigint) AS cache_write_5m_tokens,
  CAST(SUM(a.cache_write_1h_tokens) AS bigint) AS cache_write_1h_tokens,
  CAST(SUM(a.cache_read_tokens) AS bigint) AS cache_read_tokens,
  CAST(SUM(a.output_tokens) AS bigint) AS output_tokens,
  CAST(SUM(a.thinking_tokens) AS bigint) AS thinking_tokens,
  CAST(SUM(a.web_search_requests) AS bigint) AS web_search_requests,
  CASE WHEN COUNT(a.attempt_id) = 0 THEN 0
    ELSE CAST(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END) AS bigint) END AS cost_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_low END), 0) AS bigint)
    AS in_doubt_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_high END), 0) AS bigint)
    AS in_doubt_high_pico_usd,
  COUNT(CASE WHEN a.attempt_id IS NULL AND t.cost_high IS NULL THEN 1 END)
    AS in_doubt_unbounded,
  COUNT(DISTINCT CASE WHEN CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END IN (1, 2, 3) THEN NULL
    ELSE a.request_id END) AS unpriced_requests,
  COUNT(DISTINCT CASE WHEN CASE WHEN more.line IS NULL THEN o.status = 'assumed' ELSE EXISTS (SELECT 1 FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END
    THEN a.request_id END) AS assumed_requests,
  CAST(COALESCE(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'assumed' THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END END ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END), 0) AS bigint)
    AS assumed_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'assumed' THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END), 0) AS bigint)
    AS assumed_high_pico_usd
FROM attempts t
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN answers a ON a.attempt_id = t.attempt_id AND t.state <> 'partial'
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
GROUP BY 1, 2, 3
) x;

CREATE VIEW v_texts AS
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source, h.row_number, h.custom_id,
  COALESCE(a.joined_text, a.text) AS text, a.model, a.stop_reason,
  CAST(CAST(CASE WHEN h.is_shared = 1 THEN 0
    WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered')
    ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END AS numeric) / 1000000000000 AS numeric(38, 12)) AS cost_usd
FROM (SELECT
    a.run_id, a.invocation_id, s.name AS source, a.row_number, a.custom_id, a.attempt_id,
    0 AS is_shared
  FROM sources s CROSS JOIN answers a
  WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
  UNION ALL
  SELECT
    h.run_id, h.invocation_id, s.name, h.row_number, h.custom_id, h.attempt_id, 1
  FROM sources s CROSS JOIN shared_answers h
  WHERE h.source_id = s.source_id AND s.superseded_by IS NULL) h
JOIN answers a ON a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1;

CREATE VIEW v_batches AS
SELECT
  b.run_id, b.invocation_id, r.job, i.endpoint, i.lane, b.batch_number, b.batch_id, b.state,
  b.requested_model, TIMESTAMPTZ 'epoch' + b.intended_at * INTERVAL '1 microsecond' AS intended_at, TIMESTAMPTZ 'epoch' + b.created_at * INTERVAL '1 microsecond' AS created_at,
  TIMESTAMPTZ 'epoch' + b.expires_at * INTERVAL '1 microsecond' AS expires_at, TIMESTAMPTZ 'epoch' + b.ended_at * INTERVAL '1 microsecond' AS ended_at,
  b.requests, b.succeeded, b.errored, b.expired, b.canceled
FROM batches b
LEFT JOIN runs r ON r.run_id = b.run_id
LEFT JOIN invocations i ON i.invocation_id = b.invocation_id;

INSERT INTO batcher_version (version_num) VALUES ('0015');

