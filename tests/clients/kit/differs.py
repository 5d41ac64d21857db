"""What stores by other people do otherwise than S3, and the tests that are left out over them for it: by name, by file and name, or a whole file."""

VERSITYGW = {
    **dict.fromkeys(["test_odd_keys", "test_presigned_everything"], "versitygw takes keys with a slash at the end for folders"),
    "test_configurations": "versitygw takes few of a bucket's documents",
    **dict.fromkeys(["test_read_conditions", "test_times"], "versitygw judges some conditions otherwise"),
    "test_conditions_on_the_target": "versitygw has no conditions on the target of a copy",
    **dict.fromkeys(
        ["test_onto_itself", "test_class_redirect_and_acl", "test_longer_than_one_request_copies", "test_storage_classes"],
        "versitygw knows one storage class",
    ),
    **dict.fromkeys(["test_object_lock", "test_plaintext_bucket"], "versitygw keeps aws-chunked in Content-Encoding"),
    "test_object_lock_of_uploads_in_parts": "versitygw refuses parts with checksums of an upload into a bucket with Object Lock",
    "test_default_retention": "versitygw does not say which retention a bucket's default gave",
    "test_a_version_that_is_not_there": "versitygw answers NoSuchKey for a version that is not there",
    "test_delete_markers": "versitygw does not name the delete marker that hides an object",
    **dict.fromkeys(
        ["test_list_object_versions", "test_what_uploads_keep_is_in_no_list_of_versions"],
        "versitygw has empty pages and repeated ones in a list of versions",
    ),
    "test_a_bad_body_leaves_nothing_in_a_plaintext_bucket": "versitygw may store what it got of an upload that broke off, where it has no checksum",
    "test_delete_objects": "versitygw answers a quiet deletion with every key",
}
GARAGE = {
    "test_versions.py": "garage has no versions",
    **dict.fromkeys(["test_copy.py::test_versions", "test_a_version_that_was_asked_for"], "garage has no versions"),
    **dict.fromkeys(
        [
            "test_write_conditions",
            "test_put_only_if_it_is_new",
            "test_of_many_writers_one_wins",
            "test_conditions_on_the_target",
            "test_plaintext_bucket",
        ],
        "garage ignores the conditions of writes",
    ),
    **dict.fromkeys(["test_tags", "test_blank_keys", "test_presigned_everything", "test_forwarded_settings"], "garage has no tags"),
    "test_configurations": "garage takes few of a bucket's documents",
    **dict.fromkeys(
        [
            "test_object_lock",
            "test_object_lock_of_uploads_in_parts",
            "test_delete_objects_with_bypass",
            "test_default_retention",
            "test_a_lock_needs_a_digest",
        ],
        "garage has no Object Lock, and refuses the signed trailers that come with it",
    ),
    **dict.fromkeys(
        ["test_onto_itself", "test_class_redirect_and_acl", "test_longer_than_one_request_copies", "test_storage_classes"],
        "garage knows one storage class",
    ),
    "test_odd_keys": "garage drops slashes at the start of a key",
    "test_copy.py::test_sizes": "garage tells the time of a copy in milliseconds and that of the object in seconds",
    "test_owner_and_storage_class": "garage names no owner",
    "test_life_of_a_bucket": "garage names us-east-1 as a location, where S3 names none",
}
DIFFERS = {"versitygw": VERSITYGW, "garage": GARAGE}


def reason(kind, file, test):
    """Why this test of this file is left out over a store of this kind, or None."""
    known = DIFFERS.get(kind, {})
    return known.get(f"{file}::{test}") or known.get(test) or known.get(file)
