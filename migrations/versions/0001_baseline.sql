CREATE TABLE ledger_info (
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  CONSTRAINT pk_ledger_info PRIMARY KEY (name)
);

CREATE TABLE price_books (
  price_book_id {serial} NOT NULL,
  version TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  source TEXT NOT NULL,
  content TEXT NOT NULL,
  CONSTRAINT uq_price_books_sha256 UNIQUE (sha256),
  CONSTRAINT pk_price_books PRIMARY KEY (price_book_id)
);

CREATE TABLE rate_sets (
  rate_set_id {serial} NOT NULL,
  price_book_id {big} NOT NULL,
  price_list TEXT NOT NULL,
  model TEXT NOT NULL,
  terms TEXT NOT NULL,
  valid_from TEXT NOT NULL,
  currency TEXT NOT NULL,
  input_rate {big},
  cache_write_5m_rate {big},
  cache_write_1h_rate {big},
  cache_read_rate {big},
  output_rate {big},
  web_search_rate {big},
  CONSTRAINT uq_rate_sets_price_book_id_price_list_model_terms_valid_from
    UNIQUE (price_book_id, price_list, model, terms, valid_from),
  CONSTRAINT fk_rate_sets_price_book_id FOREIGN KEY (price_book_id) REFERENCES price_books (price_book_id),
  CONSTRAINT pk_rate_sets PRIMARY KEY (rate_set_id)
);

CREATE TABLE ratings (
  rating_id {serial} NOT NULL,
  price_book_id {big} NOT NULL,
  created_at {big} NOT NULL,
  reason TEXT NOT NULL,
  position {big},
  run_id {big},
  as_of TEXT,
  CONSTRAINT fk_ratings_price_book_id FOREIGN KEY (price_book_id) REFERENCES price_books (price_book_id),
  CONSTRAINT pk_ratings PRIMARY KEY (rating_id)
);

CREATE TABLE closed_months (
  closing_id {serial} NOT NULL,
  month TEXT NOT NULL,
  rating_id {big} NOT NULL,
  closed_at {big} NOT NULL,
  reopened_by {big},
  CONSTRAINT fk_closed_months_rating_id FOREIGN KEY (rating_id) REFERENCES ratings (rating_id),
  CONSTRAINT pk_closed_months PRIMARY KEY (closing_id)
);

CREATE TABLE runs (
  run_id {serial} NOT NULL,
  key TEXT NOT NULL,
  job TEXT,
  created_at {big} NOT NULL,
  CONSTRAINT uq_runs_key UNIQUE (key),
  CONSTRAINT pk_runs PRIMARY KEY (run_id)
);

CREATE TABLE invocations (
  invocation_id {serial} NOT NULL,
  run_id {big} NOT NULL,
  started_at {big} NOT NULL,
  ended_at {big},
  exit_code INTEGER,
  clean INTEGER DEFAULT '0' NOT NULL,
  settled_below {big} DEFAULT '0' NOT NULL,
  host TEXT NOT NULL,
  pid {big} NOT NULL,
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
  source_id {serial} NOT NULL,
  run_id {big} NOT NULL,
  name TEXT NOT NULL,
  location TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  settings_digest TEXT NOT NULL,
  matched INTEGER NOT NULL,
  rows {big},
  done_ranges TEXT DEFAULT '[]' NOT NULL,
  superseded_by {big},
  CONSTRAINT fk_sources_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT pk_sources PRIMARY KEY (source_id)
);

CREATE INDEX ix_sources_run_id ON sources (run_id);

CREATE TABLE attempts (
  attempt_id {big} NOT NULL,
  attempt_uid TEXT NOT NULL,
  invocation_id {big} NOT NULL,
  request_id {big} NOT NULL,
  source_id {big} NOT NULL,
  row_number {big} NOT NULL,
  byte_offset {big},
  custom_id TEXT,
  params_hash {bytes} NOT NULL,
  number INTEGER NOT NULL,
  leg INTEGER NOT NULL,
  purpose TEXT NOT NULL,
  lane TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  state TEXT NOT NULL,
  pending INTEGER NOT NULL,
  opened_at {big} NOT NULL,
  sent_at {big},
  settled_at {big},
  http_status INTEGER,
  error_type TEXT,
  error_code TEXT,
  error_message TEXT,
  provider_request_id TEXT,
  cost_low {big} NOT NULL,
  cost_high {big},
  workspace_id TEXT,
  {unchecked}CONSTRAINT fk_attempts_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  {unchecked}CONSTRAINT fk_attempts_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_attempts PRIMARY KEY (attempt_id)
);

CREATE INDEX ix_attempts_not_answered ON attempts (invocation_id, state) WHERE state <> 'answered';

CREATE INDEX ix_attempts_pending ON attempts (invocation_id) WHERE pending = 1;

CREATE TABLE answers (
  attempt_id {big} NOT NULL,
  request_id {big} NOT NULL,
  run_id {big} NOT NULL,
  invocation_id {big} NOT NULL,
  source_id {big} NOT NULL,
  row_number {big} NOT NULL,
  custom_id TEXT,
  params_hash {bytes} NOT NULL,
  identity {big} NOT NULL,
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
  input_tokens {big},
  cache_write_tokens {big},
  cache_write_5m_tokens {big},
  cache_write_1h_tokens {big},
  cache_read_tokens {big},
  output_tokens {big},
  thinking_tokens {big},
  web_search_requests {big},
  service_tier TEXT,
  inference_geo TEXT,
  speed TEXT,
  usage TEXT,
  provider_reported_cost TEXT,
  attempts INTEGER NOT NULL,
  legs INTEGER NOT NULL,
  latency_us {big} NOT NULL,
  first_token_us {big},
  answered_at {big} NOT NULL,
  valid INTEGER,
  invalid_reason TEXT,
  {unchecked}CONSTRAINT fk_answers_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  {unchecked}CONSTRAINT fk_answers_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  {unchecked}CONSTRAINT fk_answers_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  {unchecked}CONSTRAINT fk_answers_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_answers PRIMARY KEY (attempt_id)
);

CREATE INDEX ix_answers_identity ON answers (identity);

CREATE INDEX ix_answers_locator ON answers (source_id, row_number) WHERE final = 1;

CREATE INDEX ix_answers_not_final ON answers (request_id) WHERE final = 0;

CREATE TABLE unusable_bodies (
  attempt_id {big} NOT NULL,
  body {bytes} NOT NULL,
  CONSTRAINT fk_unusable_bodies_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT pk_unusable_bodies PRIMARY KEY (attempt_id)
);

CREATE TABLE tool_results (
  attempt_id {big} NOT NULL,
  results TEXT NOT NULL,
  ran_at {big} NOT NULL,
  CONSTRAINT fk_tool_results_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT pk_tool_results PRIMARY KEY (attempt_id)
);

CREATE TABLE failures (
  failure_id {serial} NOT NULL,
  run_id {big} NOT NULL,
  invocation_id {big} NOT NULL,
  source_id {big} NOT NULL,
  row_number {big} NOT NULL,
  byte_offset {big},
  custom_id TEXT,
  params_hash {bytes},
  identity {big},
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  transient INTEGER NOT NULL,
  attempt_id {big},
  failed_at {big} NOT NULL,
  CONSTRAINT uq_failures_source_id_row_number UNIQUE (source_id, row_number),
  CONSTRAINT fk_failures_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT fk_failures_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT fk_failures_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_failures PRIMARY KEY (failure_id)
);

CREATE INDEX ix_failures_identity ON failures (identity);

CREATE TABLE charges (
  attempt_id {big} NOT NULL,
  line INTEGER NOT NULL,
  rating_id {big} NOT NULL,
  current INTEGER NOT NULL,
  model TEXT,
  rate_set_id {big},
  currency TEXT,
  status TEXT NOT NULL,
  reason TEXT,
  input_quantity {big},
  cache_write_5m_quantity {big},
  cache_write_1h_quantity {big},
  cache_read_quantity {big},
  output_quantity {big},
  web_search_quantity {big},
  input_amount {big},
  cache_write_5m_amount {big},
  cache_write_1h_amount {big},
  cache_read_amount {big},
  output_amount {big},
  web_search_amount {big},
  total_amount {big},
  {unchecked}CONSTRAINT fk_charges_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  {unchecked}CONSTRAINT fk_charges_rating_id FOREIGN KEY (rating_id) REFERENCES ratings (rating_id),
  {unchecked}CONSTRAINT fk_charges_rate_set_id FOREIGN KEY (rate_set_id) REFERENCES rate_sets (rate_set_id),
  CONSTRAINT pk_charges PRIMARY KEY (attempt_id, line, rating_id)
);

CREATE TABLE rollups (
  invocation_id {big} NOT NULL,
  quarter {big} NOT NULL,
  lane TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  model TEXT NOT NULL,
  stop_reason TEXT NOT NULL,
  rating_id {big} NOT NULL,
  status TEXT NOT NULL,
  currency TEXT NOT NULL,
  charges {big} NOT NULL,
  answers {big} NOT NULL,
  final_answers {big} NOT NULL,
  input_tokens {big} NOT NULL,
  cache_write_5m_tokens {big} NOT NULL,
  cache_write_1h_tokens {big} NOT NULL,
  cache_read_tokens {big} NOT NULL,
  output_tokens {big} NOT NULL,
  thinking_tokens {big} NOT NULL,
  web_search_requests {big} NOT NULL,
  unpriced_answers {big} NOT NULL,
  unpriced_tokens {big} NOT NULL,
  amount_whole {big} NOT NULL,
  amount_rest {big} NOT NULL,
  superseded_by {big},
  CONSTRAINT fk_rollups_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_rollups PRIMARY KEY (
    invocation_id, quarter, lane, requested_model, model, stop_reason, rating_id, status,
    currency
  )
);

CREATE TABLE budgets (
  scope TEXT NOT NULL,
  cap {big} NOT NULL,
  granted {big} NOT NULL,
  settled {big} NOT NULL,
  CONSTRAINT pk_budgets PRIMARY KEY (scope)
);

CREATE TABLE budget_slices (
  scope TEXT NOT NULL,
  invocation_id {big} NOT NULL,
  granted {big} NOT NULL,
  settled {big} NOT NULL,
  CONSTRAINT fk_budget_slices_scope FOREIGN KEY (scope) REFERENCES budgets (scope),
  CONSTRAINT fk_budget_slices_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_budget_slices PRIMARY KEY (scope, invocation_id)
);

CREATE TABLE estimates (
  estimate_id {serial} NOT NULL,
  run_key TEXT NOT NULL,
  basis TEXT NOT NULL,
  method TEXT NOT NULL,
  input_method TEXT NOT NULL,
  ceiling TEXT NOT NULL,
  made_at {big} NOT NULL,
  after_invocation {big} NOT NULL,
  sampled {big} NOT NULL,
  requests {big} NOT NULL,
  unbounded {big} NOT NULL,
  expected TEXT,
  low TEXT,
  high TEXT,
  actual TEXT,
  grade TEXT,
  in_doubt_low TEXT,
  in_doubt_high TEXT,
  run_id {big},
  graded_at {big},
  CONSTRAINT pk_estimates PRIMARY KEY (estimate_id)
);

CREATE TABLE reconciliations (
  reconciliation_id {serial} NOT NULL,
  recorded_at {big} NOT NULL,
  recorded_by TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  simulated INTEGER NOT NULL,
  days TEXT NOT NULL,
  files TEXT NOT NULL,
  after_rating {big} NOT NULL,
  CONSTRAINT pk_reconciliations PRIMARY KEY (reconciliation_id)
);

CREATE TABLE adjustments (
  adjustment_id {serial} NOT NULL,
  reconciliation_id {big} NOT NULL,
  recorded_at {big} NOT NULL,
  recorded_by TEXT NOT NULL,
  day TEXT NOT NULL,
  model TEXT,
  tier TEXT,
  geography TEXT,
  kind TEXT NOT NULL,
  amount {big} NOT NULL,
  cause TEXT NOT NULL,
  after_rating {big} NOT NULL,
  undoes {big},
  CONSTRAINT fk_adjustments_reconciliation_id FOREIGN KEY (reconciliation_id) REFERENCES reconciliations (reconciliation_id),
  CONSTRAINT uq_adjustments_undoes UNIQUE (undoes),
  CONSTRAINT fk_adjustments_undoes FOREIGN KEY (undoes) REFERENCES adjustments (adjustment_id),
  CONSTRAINT pk_adjustments PRIMARY KEY (adjustment_id)
);

CREATE TABLE leases (
  name TEXT NOT NULL,
  token {big} NOT NULL,
  owner TEXT NOT NULL,
  process TEXT NOT NULL,
  invocation_id {big},
  acquired_at {big} NOT NULL,
  expires_at {big} NOT NULL,
  written {big} NOT NULL,
  CONSTRAINT pk_leases PRIMARY KEY (name)
);

CREATE TABLE quota_leases (
  fingerprint TEXT NOT NULL,
  model_class TEXT NOT NULL,
  invocation_id {big} NOT NULL,
  demand INTEGER NOT NULL,
  share INTEGER NOT NULL,
  paused_until {big} NOT NULL,
  expires_at {big} NOT NULL,
  CONSTRAINT pk_quota_leases PRIMARY KEY (fingerprint, model_class, invocation_id)
);

CREATE TABLE shards (
  source_id {big} NOT NULL,
  first_row {big} NOT NULL,
  last_row {big} NOT NULL,
  invocation_id {big} NOT NULL,
  done INTEGER NOT NULL,
  CONSTRAINT fk_shards_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT fk_shards_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_shards PRIMARY KEY (source_id, first_row)
);
