"""SECURITY.md's promises, and the tests that hold each: the words that it begins with, and where they are tried."""

from typing import Final

TESTS: Final[dict[str, tuple[str, ...]]] = {
    # What is protected, and by what
    "Which modules may run": (
        "tests/modules/trust/test_device.py::test_unknown_release",
        "tests/modules/trust/test_device.py::test_other_teams_path",
        "tests/agent/test_verify.py::test_an_unpublished_release_is_refused",
        "tests/agent/test_verify.py::test_another_digest_than_the_publishers_is_refused",
        "tests/agent/test_verify.py::test_a_tampered_manifest_is_not_taken",
        "tests/modules/trust/test_bins_attacked.py::test_signed_by_another_key",
        "tests/modules/trust/test_bins_attacked.py::test_a_key_of_the_teams_own_choice",
        "tests/modules/trust/test_bins_attacked.py::test_a_team_that_delegates_to_another_teams_bins",
        "tests/attacks/mutations/test_mutations.py::test_no_change_gets_an_unverified_file_opened",
    ),
    "Which module should run on a device": (
        "tests/modules/test_order_rules.py::test_objections",
        "tests/agent/test_verify.py::test_an_order_of_a_stranger_is_refused",
        "tests/journeys/test_bad_input.py::test_an_order_for_another_device_is_refused",
        "tests/journeys/test_bad_input.py::test_an_order_older_than_the_last_is_refused",
    ),
    "Bytes in transit and on disk": (
        "tests/agent/test_fetch.py::test_a_wrong_block_alone_is_fetched_again",
        "tests/agent/test_fetch.py::test_a_wrong_index_is_not_believed",
        "tests/agent/test_fetch.py::test_a_whole_that_is_not_what_was_signed_is_invalid",
        "tests/agent/test_fetch.py::test_a_changed_blob_on_disk_is_no_source",
        "tests/attacks/mutations/test_mutations.py::test_no_change_gets_an_unverified_file_opened",
    ),
    "Images": (
        "tests/agent/engines/test_docker_images.py::test_a_tag_is_no_proof",
        "tests/agent/engines/test_docker_images.py::test_the_layers_are_compared",
        "tests/agent/engines/test_docker_images.py::test_what_the_engine_made_is_looked_at",
        "tests/agent/engines/test_docker.py::test_unsigned_image",
    ),
    "The device's identity": (
        "tests/agent/test_enroll.py::test_the_private_key_stays_on_the_device",
        "tests/fleet/test_enrolment.py::test_a_token_is_good_for_its_uses_and_its_time",
        "tests/fleet/test_ingest.py::test_a_forged_report_is_an_event_and_nothing_else",
    ),
    "The first trust of a device": (
        "tests/modules/trust/test_device.py::test_root_of_a_stranger",
        "tests/modules/trust/test_device.py::test_another_fleet",
        "tests/modules/trust/test_device.py::test_new_root_chain",
        "tests/agent/test_enroll.py::test_a_bundle_that_does_not_lead_to_its_fleet_leaves_nothing",
    ),
    "No way back to old metadata": (
        "tests/modules/trust/test_device.py::test_rollback",
        "tests/modules/trust/test_device.py::test_rollback_after_the_cache_is_lost",
        "tests/modules/trust/test_device.py::test_added_key_is_no_way_back",
        "tests/modules/trust/test_bins_attacked.py::test_rolled_back",
        "tests/modules/trust/test_bins_attacked.py::test_a_floor_in_a_bin_is_none",
        "tests/agent/test_verify.py::test_what_was_seen_with_a_refused_order_is_remembered",
    ),
    "The director's key": (
        "tests/modules/trust/test_device.py::test_forged_director",
        "tests/modules/trust/test_repository.py::test_director_is_a_target",
        "tests/agent/test_verify.py::test_a_revoked_director_is_refused",
    ),
    "Commands": (
        "tests/agent/commands/test_refused.py::test_a_forged_command_is_refused",
        "tests/agent/commands/test_refused.py::test_an_unsigned_command_is_refused",
        "tests/agent/commands/test_refused.py::test_an_order_is_no_command",
        "tests/agent/commands/test_refused.py::test_a_command_of_a_director_who_was_replaced_is_refused",
        "tests/agent/commands/test_refused.py::test_a_command_for_another_device_is_refused",
        "tests/agent/commands/test_refused.py::test_a_command_that_is_not_for_now_is_refused",
        "tests/agent/commands/test_refused.py::test_what_is_not_in_the_closed_list_is_refused",
        "tests/agent/commands/test_refused.py::test_a_lost_file_lets_nothing_be_done_twice",
        "tests/agent/commands/test_once.py::test_no_order_of_deliveries_follows_a_command_twice",
        "tests/agent/commands/test_desk.py::test_a_flood_waits_in_a_short_line",
        "tests/attacks/wire/test_commands.py::test_forged_foreign_and_stale_commands_decommission_nobody",
        "tests/attacks/mutations/test_mutations.py::test_no_change_gets_an_unverified_file_opened",
    ),
    "A device's secrets": ("tests/agent/commands/test_diagnose.py::test_no_planted_secret_is_in_the_bundle",),
    "A device that is given away": (
        "tests/agent/commands/test_wipe.py::test_everything_goes_and_the_answer_before_the_identity",
        "tests/agent/commands/test_wipe.py::test_a_power_cut_at_any_moment_is_gone_on_from",
        "tests/agent/commands/test_wipe.py::test_what_is_not_edgefleets_stays",
        "tests/attacks/wire/test_commands.py::test_a_decommissioned_device_is_empty_and_stays_so",
    ),
    "Time and counter": (
        "tests/modules/test_order_rules.py::test_believed",
        "tests/modules/test_order_rules.py::test_a_stolen_key_cannot_push_time",
        "tests/agent/test_director_keys.py::test_one_order_cannot_use_up_the_counter",
        "tests/agent/test_director_keys.py::test_a_new_director_counts_anew",
        "tests/agent/test_director_keys.py::test_a_revoked_key_takes_the_time_it_taught_along",
    ),
    "Foreign numbers and texts": (
        "tests/modules/test_bounds.py::test_every_field_is_bounded",
        "tests/modules/test_bounds.py::test_the_walk_finds_what_has_no_bound",
        "tests/attacks/wire/test_agent.py::test_no_order_ends_the_agent",
        "tests/attacks/wire/test_server.py::test_no_document_of_a_device_ends_the_server",
    ),
    "One device from another": (
        "tests/deploy/test_broker.py::test_a_device_writes_below_its_own_up_and_nowhere_else",
        "tests/deploy/test_broker.py::test_a_device_reads_its_own_down_and_what_is_for_all_and_nothing_else",
        "tests/deploy/test_broker.py::test_a_client_id_taken_from_another_device_kicks_nobody",
        "tests/fleet/test_ingest.py::test_two_agents_with_one_identity_are_told_of",
    ),
    "A lost device": (
        "tests/fleet/test_removal.py::test_a_removed_device_connects_no_more_and_leaves_nothing_behind",
        "tests/fleet/test_removal.py::test_what_a_removed_device_says_counts_for_nothing",
        "tests/fleet/test_revocation.py::test_where_the_broker_cannot_be_told_that_is_said",
    ),
    "What an order may change": (
        "tests/agent/test_verify.py::test_an_order_cannot_set_what_the_publisher_did_not_allow",
        "tests/agent/test_verify.py::test_what_the_publisher_allows_is_accepted",
        "tests/modules/test_manifest.py::test_refuses_settings_out_of_bounds",
    ),
    "The module's container": (
        "tests/journeys/test_isolation.py::test_it_can_open_no_connection",
        "tests/journeys/test_isolation.py::test_it_has_no_privilege",
        "tests/journeys/test_isolation.py::test_it_can_change_nothing",
        "tests/journeys/test_isolation.py::test_it_listens_on_its_socket_alone",
        "tests/agent/engines/test_docker.py::test_no_memory_said_is_not_no_limit",
        "tests/agent/engines/test_docker.py::test_processes_are_bounded",
        "tests/agent/engines/test_docker.py::test_an_images_volumes_and_health_check_are_not_followed",
    ),
    "The host from what a module says and leaves": (
        "tests/attacks/modules/test_sockets.py::test_a_link_to_the_engines_socket_is_not_followed",
        "tests/attacks/modules/test_sockets.py::test_a_module_that_serves_can_rearrange_nothing",
        "tests/attacks/modules/test_answers_to_the_agent.py::test_a_dripped_answer_takes_no_longer_than_a_start_may",
        "tests/attacks/modules/test_answers_to_the_agent.py::test_an_endless_answer_costs_the_agent_no_memory",
        "tests/attacks/modules/test_answers_to_the_agent.py::test_a_status_that_nobody_knows_is_refused_at_a_restart",
        "tests/attacks/modules/test_leavings.py::test_filling_the_folder_is_bounded_by_the_modules_memory",
        "tests/attacks/modules/test_images.py::test_a_layer_is_unpacked_only_where_it_fits",
    ),
    "Clients from a module's answers": (
        "tests/attacks/modules/test_answers_to_clients.py::test_nobody_but_the_gateway_says_who_answered",
        "tests/attacks/modules/test_answers_to_clients.py::test_what_two_readers_could_read_in_two_ways_reaches_no_client",
        "tests/attacks/modules/test_answers_to_clients.py::test_a_storm_of_interim_answers_is_refused_and_counted",
    ),
    "The server's API": (
        "tests/fleet/test_api.py::test_every_route_needs_a_permission_or_says_that_it_is_public",
        "tests/fleet/test_api.py::test_only_health_and_enrolment_are_public",
        "tests/fleet/test_permissions.py::test_every_route_is_closed_without_its_permission_and_open_with_it_alone",
        "tests/fleet/test_enrolment.py::test_the_database_never_holds_a_token",
        "tests/fleet/test_api.py::test_one_who_guesses_tokens_has_to_wait_and_locks_nobody_else_out",
        "tests/fleet/test_connections.py::test_half_heads_are_cut_and_keep_nobody_out",
        "tests/fleet/test_connections.py::test_a_foreign_name_is_refused_with_what_to_set",
        "tests/fleet/test_connections.py::test_a_foreign_page_changes_nothing",
    ),
    "The broker's memory and connections": (
        "tests/deploy/test_broker_limits.py::test_devices_that_take_every_connection_leave_the_server_its_own",
        "tests/deploy/test_broker_limits.py::test_messages_beyond_all_memory_are_refused_and_the_broker_lives",
        "tests/deploy/test_broker.py::test_a_message_over_the_limit_ends_the_session",
    ),
    # In running text
    "A device accepts an order only if the director and the publisher agree": (
        "tests/agent/test_verify.py::test_an_unpublished_release_is_refused",
        "tests/agent/test_verify.py::test_another_digest_than_the_publishers_is_refused",
    ),
    "Expiry blocks new orders; it never stops a running": (
        "tests/agent/test_verify.py::test_expired_metadata_blocks_new_orders",
        "tests/agent/test_clocks_and_losses.py::test_no_expiry_stops_what_runs",
    ),
    "old versions above the floor included": (
        "tests/agent/test_verify.py::test_a_release_below_the_floor_is_refused",
        "tests/modules/trust/test_device.py::test_floor",
    ),
    "be a device, the broker or the server to others": (
        "tests/fleet/test_enrolment.py::test_no_authority_names_a_device_like_a_service_or_a_service_like_a_device",
    ),
    "encrypted with a passphrase of at least 16": (
        "tests/fleet/client/signing/test_keys.py::test_encrypted",
        "tests/fleet/client/signing/test_keys.py::test_passphrase",
    ),
    "plain files that only their owner can read": (
        "tests/fleet/test_main.py::test_init_makes_a_folder_that_only_its_owner_reads",
        "tests/agent/test_enroll.py::test_the_private_key_stays_on_the_device",
    ),
    # What is not protected
    "only where the device's own settings name an interpreter": (
        "tests/agent/test_wiring.py::test_a_module_is_a_process_only_where_the_device_names_an_interpreter",
    ),
    "Docker before 23.0 lets a module open AF_VSOCK": (
        "tests/agent/test_commands.py::test_doctor_knows_which_docker_lets_modules_open_vsock",
    ),
    "for it begins a new epoch, once a day at most": (
        "tests/agent/test_inbox.py::test_a_broker_that_forges_receipts_makes_few_epochs",
    ),
    "unless you set keys": ("tests/modules/scoring/test_operation.py::test_keys_and_tokens",),
    # What is not built yet
    "every 365 days, targets and teams every 180": (
        "tests/modules/trust/test_metadata.py::test_how_long_a_file_lives",
    ),
}
